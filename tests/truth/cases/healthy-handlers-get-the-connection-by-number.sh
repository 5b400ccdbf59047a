#: title = "a server gives each connection to a program as its descriptor 9 and closes its own copy; the programs answer step by step"
#: kind = "K7"
#: needs = ["/usr/bin/python3", "/bin/bash"]
#: seconds = 18
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
printf 'read -u 9 x; while :; do echo "step $x" >&9; sleep 7; done\n' >"$W/handler"
bg $S /usr/bin/python3 -c '
import os,socket,subprocess
l=socket.create_server(("10.77.0.2",8080),backlog=50)
while 1:
    c=l.accept()[0]; os.dup2(c.fileno(),9)
    subprocess.Popen(["/bin/bash","'"$W"'/handler"],pass_fds=[9]); os.close(9); c.close()'
listens $S 8080
for i in 1 2 3 4 5 6; do bg $C /usr/bin/python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"job\n")
while s.recv(999): pass'; done
sleep 9
ready
