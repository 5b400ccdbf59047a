#: title = "Python's HTTPServer reads from a browser's idle spare connection; everybody else waits for accept()"
#: kind = "K2"
#: needs = ["python3", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled", "accept-queue-overflow"]
#: comm = "python3"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
bg $S env -C "$W" python3 -c '
import http.server
http.server.HTTPServer(("10.77.0.2",8000),http.server.SimpleHTTPRequestHandler).serve_forever()'
listens $S 8000
bg $C bash -c 'exec 3<>/dev/tcp/10.77.0.2/8000; sleep 60'
sleep 0.3
for i in 1 2 3 4; do bg $C curl -s -o /dev/null http://10.77.0.2:8000/; done
sleep 5
ready
