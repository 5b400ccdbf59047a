#: title = "localhost is ::1 first, the server has only 127.0.0.1: curl is refused on IPv6 and at once goes on with IPv4"
#: kind = "K4"
#: needs = ["nginx", "curl"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
one
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:8080; return 200 ok; } }
A
bg $C nginx -c "$W/n.conf"
listens $C 8080
bg $C bash -c 'while :; do curl -s -o /dev/null --resolve "localhost:8080:[::1],127.0.0.1" http://localhost:8080/; sleep 0.05; done'
sleep 3
ready
