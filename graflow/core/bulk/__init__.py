"""What makes graphs of many thousand nodes cheap."""
