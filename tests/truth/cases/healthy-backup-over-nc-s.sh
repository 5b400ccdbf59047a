#: title = "a backup over nc: the receiver compresses and is slower than the sender, bytes flow all the time; seen from the receiver"
#: kind = "K4"
#: needs = ["nc", "gzip"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-backup-over-nc
