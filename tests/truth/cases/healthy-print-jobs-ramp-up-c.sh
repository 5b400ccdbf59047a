#: title = "half-closed jobs that take 60 s begin to come, five a second; seen from the clients"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 15
#: healthy = true
same healthy-print-jobs-ramp-up
