#: title = "postfix's smtp-source sends mail to smtp-sink without pause over ten sessions; seen from the server"
#: kind = "K4"
#: needs = ["smtp-source", "smtp-sink"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S smtp-sink -u nobody 10.77.0.2:2525 256
listens $S 2525
bg $C smtp-source -s 10 -m 100000 -l 2000 10.77.0.2:2525
sleep 2
ready
