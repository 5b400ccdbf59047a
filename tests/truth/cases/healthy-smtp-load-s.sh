#: title = "postfix's smtp-source sends mail to smtp-sink without pause over ten sessions; seen from the server"
#: kind = "K4"
#: needs = ["smtp-source", "smtp-sink"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-smtp-load
