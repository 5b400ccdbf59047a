#: title = "a node server computes and never comes back to its loop; all who were connected asked, waited for three seconds and closed"
#: kind = "K3"
#: needs = ["node", "python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["accept-queue-stalled", "answers-owed", "close-wait-leak", "fin-wait2-held"]
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "node"
#: severity_at_least = "high"
#: said = ["gave up"]
pair
bg $S node -e '
require("http").createServer((q,r)=>{ if(q.url=="/slow"){ const t=Date.now(); while(Date.now()-t<30000); } r.end("ok"); }).listen(3001,"10.77.0.2")'
listens $S 3001
bg $C python3 -c '
import socket,time
k=[]
def ask(s,path): s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"%path)
for i in range(20):
    s=socket.create_connection(("10.77.0.2",3001)); ask(s,b"/"); s.recv(999); k.append(s)
x=socket.create_connection(("10.77.0.2",3001)); ask(x,b"/slow"); time.sleep(0.5)
for s in k: ask(s,b"/")
time.sleep(3)
for s in k: s.close()
time.sleep(60)'
sleep 5
ready
