#: title = "a VPN is down and took its route with it: each connect to the office ends at once with ENETUNREACH"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 6
#: [[expect]]
#: rule = ["connect-failures"]
#: said = ["no route"]
pair
bg $C python3 -c '
import socket,time
while 1:
    try: socket.create_connection(("10.66.0.5",443),timeout=5)
    except OSError: pass
    time.sleep(.3)'
# On a busy host python takes its time.
for _ in $(seq 50); do
    n=$(ip netns exec "$C" awk '/^Ip: [0-9]/ {print $13}' /proc/net/snmp)
    [ "${n:-0}" -ge 4 ] && break; sleep 0.1
done
ready
