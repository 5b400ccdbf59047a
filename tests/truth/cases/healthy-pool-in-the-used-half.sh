#: title = "300 connections of a pool to four servers on ports that connect() chose: nobody binds"
#: kind = "K2"
#: needs = ["node", "python3"]
#: seconds = 8
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="20001 20300"
bg $S python3 -c '
import socket,select
ls=[socket.create_server(("10.77.0.2",p),backlog=500) for p in (80,81,82,83)]; k=[]
while 1:
    for l in select.select(ls,[],[])[0]: k.append(l.accept()[0])'
listens $S 83
bg $C node -e '
process.title="node"
const net=require("net"); for (let i=0;i<300;i++) net.connect(80+i%4,"10.77.0.2").on("error",()=>{})'
sleep 2
ready
