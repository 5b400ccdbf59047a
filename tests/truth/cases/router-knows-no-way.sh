#: title = "the gateway has lost its route and answers each SYN with ICMP net unreachable, which ends no attempt: clients wait for their own timeout"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "c"
#: also = ["syn-sent-pileup"]
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "python3"
#: destination = "203.0.113.9:80"
#: cause = "unreachable"
#: never_cause = ["no-answer", "refused", "impatient"]
#: never_said = ["0.0 s"]
#: severity_at_least = "warning"
routed
ip netns exec "$R" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: socket.create_connection(("203.0.113.9",80),timeout=1.7)
        except OSError: pass
for i in range(8): threading.Thread(target=w,daemon=True).start(); time.sleep(.2)
time.sleep(60)'
sleep 3
ready
