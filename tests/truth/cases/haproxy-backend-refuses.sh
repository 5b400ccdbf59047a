#: title = "haproxy without health checks: its only backend is not running, and every request is refused"
#: kind = "K3"
#: needs = ["haproxy", "curl"]
#: seconds = 9
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "haproxy"
#: destination = "10.77.0.2:8080"
#: cause = "refused"
#: severity_at_least = "warning"
pair
cat >"$W/h.cfg" <<A
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  retries 3
listen web
  bind 127.0.0.1:80
  server a 10.77.0.2:8080
A
bg $C haproxy -db -f "$W/h.cfg"
listens $C 80
for i in 1 2 3 4 5 6 7 8; do bg $C bash -c 'while :; do curl -s -o /dev/null http://127.0.0.1/; done'; done
sleep 3
ready
