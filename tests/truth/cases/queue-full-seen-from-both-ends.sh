#: title = "redis is stopped and its accept queue is full; clients and server on one host"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 12
#: also = ["accept-queue-overflow", "accept-queue-stalled", "recv-queue-stuck", "dead-peer-retransmit"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "redis-cli"
#: cause = "peer-accept-queue-full"
#: never_said = ["a filter drops", "host is down"]
one
bg $C redis-server --port 6379 --tcp-backlog 4 --save "" --appendonly no
listens $C 6379; sleep .5; kill -STOP "$(ip netns pids $C | head -1)"
for i in $(seq 14); do bg $C redis-cli -p 6379 ping; done
sleep 6
ready
