"""Controls a phone over adb."""
