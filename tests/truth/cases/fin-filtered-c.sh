#: title = "a firewall drops FINs and RSTs: the data of every connection arrives, and closed ones cannot finish"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "nft"]
#: seconds = 14
#: [[expect]]
#: rule = ["fin-wait1-stuck"]
#: destination = "10.77.0.2:6379"
#: cause = "fin-filtered"
#: severity_at_most = "info"
pair; filter $S "tcp flags & (fin|rst) != 0"
bg $S redis-server --bind 10.77.0.2 --port 6379 --protected-mode no --save '' --dir "$W"
listens $S 6379
bg $C bash -c 'while :; do redis-cli -h 10.77.0.2 ping; sleep 0.2; done'
sleep 7
ready
