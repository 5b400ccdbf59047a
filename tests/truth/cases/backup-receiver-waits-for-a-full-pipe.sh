#: title = "nc receives a backup into a pipe whose reader hangs: nothing moves any more"
#: kind = "K2"
#: needs = ["nc"]
#: seconds = 20
#: look_from = "s"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "nc"
#: never_cause = ["stopped", "deadlock"]
pair
bg $S bash -c 'nc -l 10.77.0.2 7001 | sleep 100'
listens $S 7001
bg $C bash -c 'head -c 1000000000 /dev/zero | nc -N 10.77.0.2 7001'
sleep 14
ready
