#: title = "a BGP speaker signs its SYNs (TCP MD5), its peer has no password for it and drops them in silence; both hosts in view"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:179"
#: cause = "key-mismatch"
#: said = ["TCPMD5"]
#: never_cause = ["peer-accept-queue-full", "port-filtered", "host-down"]
pair
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",179),backlog=16); k=[]
while 1: k.append(l.accept()[0])'
listens $S 179
bg $C python3 -c '
import socket,struct
s=socket.socket()
s.setsockopt(6,14,struct.pack("=HH4s120xBBHi80s",2,0,socket.inet_aton("10.77.0.2"),0,0,6,0,b"secret"))
s.connect(("10.77.0.2",179))'
sleep 6
ready
