#: title = "a threaded https server makes the TLS handshake inside accept; one silent client holds it"
#: kind = "K2"
#: needs = ["/usr/bin/python3", "openssl", "curl", "nc"]
#: seconds = 20
#: look_from = "s"
#: also = ["accept-queue-overflow", "accept-queue-dead-entries", "close-wait-unaccepted", "listener-drops-since-open"]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: listener = "10.77.0.2:8443"
#: severity_at_least = "warning"
pair
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$W/k.pem" -out "$W/c.pem" -days 2 -subj /CN=shop >>"$W/out" 2>&1 || exit 1
cat >"$W/web.py" <<A
import ssl, http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "3"); self.end_headers(); self.wfile.write(b"ok\n")
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("10.77.0.2", 8443), H)
x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); x.load_cert_chain("$W/c.pem", "$W/k.pem")
s.socket = x.wrap_socket(s.socket, server_side=True)
s.serve_forever()
A
bg $S /usr/bin/python3 "$W/web.py"
listens $S 8443
for i in 1 2 3; do within $C curl -sk --max-time 5 https://10.77.0.2:8443/ || exit 1; done
# The silent client: it connects and never says hello.
bg $C bash -c 'sleep 600 | nc 10.77.0.2 8443'
sleep 1
# The users: one a second, each gives up after four.
bg $C bash -c 'for i in $(seq 400); do curl -sk --max-time 4 https://10.77.0.2:8443/ & sleep 1; done'
sleep 14
ready
