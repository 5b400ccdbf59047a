#: title = "a NAT forgot idle subscribers; short connections from the same address to the same port work each second"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "nft"]
#: seconds = 24
#: look_from = "s"
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "redis-server"
#: cause = "path-forgot-flow"
#: never_cause = ["host-down", "port-filtered"]
pair
bg $S redis-server --bind 10.77.0.2 --port 6379 --protected-mode no --save '' --dir "$W"
listens $S 6379
for i in 1 2 3 4; do bg $C bash -c 'sleep 90 | redis-cli -h 10.77.0.2 subscribe x'; done
sleep 1
P=$(ip netns exec $C ss -Htn state established dst 10.77.0.2 | awk '{sub(/.*:/,"",$3); print $3}' | paste -sd,)
filter $C "tcp dport { $P }"; filter $S "tcp sport { $P }"
bg $C bash -c 'while :; do redis-cli -h 10.77.0.2 ping; sleep 0.7; done'
sleep 5
bg $S bash -c 'while :; do redis-cli -h 10.77.0.2 publish x y; sleep 1; done'
sleep 8
ready
