#: title = "the tunnel's route goes away under six connections: every send and every new connect fails in this host's own routing"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 22
#: look_from = "c"
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: destination = "10.77.2.2:6379"
#: said = ["do not leave this host"]
#: severity_at_least = "warning"
routed
bg $S redis-server --bind 10.77.2.2 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W"
bg $R redis-server --bind 10.77.1.254 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W"
listens $S 6379; listens $R 6379
for i in 1 2 3 4 5 6; do bg $C redis-cli -h 10.77.2.2 -r -1 -i 0.2 incr "k$i"; done
bg $C redis-cli -h 10.77.1.254 -r -1 -i 0.2 incr k
sleep 3
ip -n "$C" route del default
bg $C bash -c 'while sleep 0.7; do redis-cli -h 10.77.2.2 ping; done'
sleep 14
ready
