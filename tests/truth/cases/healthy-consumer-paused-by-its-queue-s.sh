#: title = "a stream consumer with a bounded queue: its reader thread waits for the worker, which takes 20 s for a batch; seen from the sender"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 30
#: look_from = "s"
#: doctor = [[], ["--once"], ["--interval", "5s"]]
#: healthy = true
same healthy-consumer-paused-by-its-queue
