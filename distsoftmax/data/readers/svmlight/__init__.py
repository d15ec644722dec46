"""Files in the svmlight format."""
