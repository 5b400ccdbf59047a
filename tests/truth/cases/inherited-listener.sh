#: title = "the server ended; a sleep that it started still holds its listener"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["inherited-listener", "accept-queue-stalled"]
#: comm = "sleep"
#: listener = "127.0.0.1:9000"
#: said = ["CLOEXEC"]
one
within $C python3 -c '
import socket,subprocess
l=socket.create_server(("127.0.0.1",9000),backlog=8); l.set_inheritable(True)
subprocess.Popen(["sleep","60"],close_fds=False)'
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",9000)) for i in range(3)]; time.sleep(60)'
sleep 4
ready
