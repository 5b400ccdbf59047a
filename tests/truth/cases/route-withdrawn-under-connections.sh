#: title = "the tunnel's route goes away under six connections: every send and every new connect fails in this host's own routing"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 22
#: look_from = "c"
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: destination = "10.77.2.2:6379"
#: said = ["do not leave this host"]
#: severity_at_least = "warning"
netns "$C"; netns "$S"; netns "${N}r"; R=${N}r
ip link add "v${N}c" netns "$C" type veth peer name "v${N}x" netns "$R"
ip link add "v${N}s" netns "$S" type veth peer name "v${N}y" netns "$R"
ip -n "$C" addr add 10.77.1.1/24 dev "v${N}c"; ip -n "$R" addr add 10.77.1.254/24 dev "v${N}x"
ip -n "$S" addr add 10.77.2.2/24 dev "v${N}s"; ip -n "$R" addr add 10.77.2.254/24 dev "v${N}y"
for l in "$C v${N}c" "$S v${N}s" "$R v${N}x" "$R v${N}y"; do ip -n "${l% *}" link set "${l#* }" up; done
ip -n "$C" route add 10.77.2.0/24 via 10.77.1.254; ip -n "$S" route add default via 10.77.2.254
ip netns exec "$R" sysctl -qw net.ipv4.ip_forward=1
bg $S redis-server --bind 10.77.2.2 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W"
bg $R redis-server --bind 10.77.1.254 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W"
listens $S 6379; listens $R 6379
for i in 1 2 3 4 5 6; do bg $C redis-cli -h 10.77.2.2 -r -1 -i 0.2 incr "k$i"; done
bg $C redis-cli -h 10.77.1.254 -r -1 -i 0.2 incr k
sleep 3
ip -n "$C" route del 10.77.2.0/24
bg $C bash -c 'while sleep 0.7; do redis-cli -h 10.77.2.2 ping; done'
sleep 14
ready
