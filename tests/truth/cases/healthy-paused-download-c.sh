#: title = "one user paused one download (Ctrl-Z)"
#: kind = "K4"
#: needs = ["python3", "curl"]
#: seconds = 75
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-paused-download-s
