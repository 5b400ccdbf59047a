#: title = "wget --limit-rate: the reader takes what it wants"
#: kind = "K4"
#: needs = ["python3", "wget"]
#: seconds = 30
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: times = 2
#: healthy = true
same healthy-wget-limit-rate
