#: title = "a scanner tries 300 ports of a host, again and again, and finds none of them open"
#: kind = "K5"
#: needs = ["/usr/bin/python3"]
#: seconds = 7
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "python3"
#: numbers = { destinations = [100, 300] }
pair
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    for port in range(1000,1300):
        socket.socket().connect_ex(("10.77.0.2",port)); time.sleep(.002)'
sleep 1
ready
