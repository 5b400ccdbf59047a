#: title = "an echo server answers while its clients still send; they read only when all is sent, so that both ends wait to write for ever"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 18
#: look_from = "s"
#: also = ["send-queue-stuck", "zero-window-peer"]
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "python3"
#: cause = "both-write"
#: never_said = ["at work on it"]
#: severity_at_least = "info"
pair
bg $S python3 -c '
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while d:=self.request.recv(65536): self.request.sendall(d*2)
class T(socketserver.ThreadingTCPServer): allow_reuse_address=True; daemon_threads=True
T(("10.77.0.2",8000),H).serve_forever()'
listens $S 8000
bg $C python3 -c '
import socket,threading
def client():
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"q"*60000000); s.recv(9)
for _ in range(3): threading.Thread(target=client).start()'
sleep 12
ready
