#: title = "the server ended; a shell with a tail -f that it started still holds its listener, and no client has come yet"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["inherited-listener"]
#: listener = "127.0.0.1:9100"
#: said = ["CLOEXEC"]
#: severity_at_most = "warning"
one
within $C python3 -c '
import socket,subprocess
l=socket.create_server(("127.0.0.1",9100)); l.set_inheritable(True)
subprocess.Popen(["sh","-c","tail -f /dev/null; echo"],close_fds=False)'
sleep 3.5
ready
