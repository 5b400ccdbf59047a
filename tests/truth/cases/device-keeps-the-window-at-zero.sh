#: title = "a device sets the window of what a reader sends to zero: the reader has taken all, and its sender probes for ever"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 22
#: also = ["send-queue-stuck"]
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["zero-window-peer"]
#: comm = "python3"
#: destination = "10.77.2.2:873"
#: cause = "window-not-reopened"
#: severity_at_least = "info"
#: never_cause = ["reader-stuck", "reader-halted", "reader-slow"]
routed
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.2.2",873)); c=l.accept()[0]
while c.recv(65536): pass'
listens $S 873
pour $C 10.77.2.2 873
sleep 1
ip netns exec $R nft "add table ip f; add chain ip f w { type filter hook forward priority 0; }; add rule ip f w tcp sport 873 tcp window set 0"
sleep 15
ready
