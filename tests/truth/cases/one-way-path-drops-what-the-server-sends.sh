#: title = "what the server sends is lost on the way, while its clients' requests still arrive"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 22
#: look_from = "s"
#: also = ["syn-ack-unanswered", "send-queue-stuck"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: cause = "ours-lost"
#: never_cause = ["host-down"]
pair
bg $S python3 -c '
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(b"y"*200+b"\n")
socketserver.ThreadingTCPServer.request_queue_size=64
socketserver.ThreadingTCPServer(("10.77.0.2",80),H).serve_forever()'
listens $S 80
bg $C python3 -c '
import socket,threading,time
def w():
    s=socket.create_connection(("10.77.0.2",80)); f=s.makefile("rwb")
    while 1: f.write(b"x\n"); f.flush(); f.readline(); time.sleep(0.2)
[threading.Thread(target=w,daemon=True).start() for i in range(6)]
time.sleep(100)'
sleep 1.5; filter $C "tcp sport 80"
sleep 10
ready
