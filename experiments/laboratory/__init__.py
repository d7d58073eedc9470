"""What only the project's own evidence needs: losing predictors, calibration, clock fits."""
