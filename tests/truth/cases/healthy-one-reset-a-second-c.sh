#: title = "a port check closes without reading the banner: one reset a second"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 9
#: healthy = true
same healthy-one-reset-a-second-s
