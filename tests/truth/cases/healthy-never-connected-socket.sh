#: title = "one socket that was never connected beside refused connects that come and go"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 14
#: times = 3
#: healthy = true
#: also = ["connect-failures"]
pair
bg $C python3 -c '
import socket,time
keep=socket.socket(); k=[]
while 1:
    x=socket.socket()
    try: x.connect(("10.77.0.2",81))
    except OSError: pass
    k.append(x); k=k[-5:] if len(k)>9 else k
    time.sleep(.11)'
sleep 2
ready
