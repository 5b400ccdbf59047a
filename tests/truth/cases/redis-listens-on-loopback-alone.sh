#: title = "redis listens on 127.0.0.1 alone, and clients on other hosts are refused"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 6
#: look_from = "s"
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "no-listener"
#: said = ["redis-server", "listens on 127.0.0.1:6379 alone"]
pair
bg $S redis-server --bind 127.0.0.1 --port 6379 --save "" --dir "$W"
listens $S 6379
bg $C bash -c 'while :; do redis-cli -h 10.77.0.2 ping; sleep 0.05; done'
sleep 2
ready
