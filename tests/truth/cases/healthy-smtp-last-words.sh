#: title = "idle SMTP sessions of a mailer: 421 and FIN are unread"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 85
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ulimit -Sn 256
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",25))
def h(c):
    c.sendall(b"220 mx ready\r\n"); c.recv(200); c.sendall(b"250 mx\r\n"); time.sleep(4)
    c.sendall(b"421 4.4.2 mx Error: timeout exceeded\r\n"); c.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],)).start()'
listens $S 25
bg $C python3 -c '
import smtplib,time
k=[]
for i in range(20):
    s=smtplib.SMTP("10.77.0.2"); s.ehlo("c"); k.append(s); time.sleep(.1)
time.sleep(300)'
sleep 72
ready
