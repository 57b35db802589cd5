"""What runs a SavedModel: TensorFlow itself, or OpenVINO; one module each, behind `engine.Engine`."""
