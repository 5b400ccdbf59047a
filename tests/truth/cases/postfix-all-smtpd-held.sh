#: title = "postfix may run four smtpd, an application holds all four with idle sessions; others wait for the greeting"
#: kind = "K2"
#: needs = ["postfix", "/usr/bin/python3"]
#: seconds = 22
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "smtpd"
#: listener = "10.77.0.2:25"
#: cause = "workers-busy"
#: never_cause = ["loop-stuck", "stopped", "busy-loop", "accept-paused"]
#: said = ["held by a connection of 10.77.0.1 that is idle"]
#: never_said = ["waits for something else"]
#: severity_at_least = "warning"
#: [expect.numbers]
#: waiting = [12, 30]
#: accepted_connections = [4, 4]
#: workers_idle_at_least_ms = [8000, 30000]
pair
P=$W/pf; chmod 755 "$W"; mkdir -p "$P" "$W/q"; install -d -o postfix -m 700 "$W/d"
cat >"$P/main.cf" <<A
compatibility_level = 3.6
queue_directory = $W/q
data_directory = $W/d
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 10.77.0.2
inet_protocols = ipv4
myhostname = mail.test
mydestination = mail.test
local_recipient_maps =
default_transport = discard
local_transport = discard
alias_maps =
alias_database =
smtpd_timeout = 600s
smtpd_peername_lookup = no
mynetworks = 10.77.0.0/24
A
cat >"$P/master.cf" <<A
smtp      inet  n       -       n       -       4       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
discard   unix  -       -       n       -       -       discard
error     unix  -       -       n       -       -       error
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
proxymap  unix  -       -       n       -       -       proxymap
A
cp /etc/postfix/dynamicmaps.cf "$P/" 2>/dev/null
for d in active bounce corrupt defer deferred flush hold incoming private saved trace pid public maildrop; do mkdir "$W/q/$d"; done
(cd "$W/q"; chown postfix active bounce corrupt defer deferred flush hold incoming private saved trace
chown postfix:postdrop public maildrop; chmod 730 maildrop; chmod 710 public; chmod 700 private)
bg $S env MAIL_CONFIG="$P" /usr/lib/postfix/sbin/master -c "$P" -d
listens $S 25
sleep 1
# The application: four sessions, each sent one mail and is kept open for the next.
cat >"$W/app.py" <<A
import smtplib, time
k = []
for i in range(4):
    s = smtplib.SMTP("10.77.0.2", 25, "app.test", 10); s.sendmail("a@mail.test", ["b@mail.test"], "Subject: x\r\n\r\nhi"); k.append(s)
time.sleep(600)
A
bg $C /usr/bin/python3 "$W/app.py"
sleep 3
cat >"$W/senders.py" <<A
import smtplib, threading, time
def f():
    try:
        s = smtplib.SMTP("10.77.0.2", 25, "user.test", 20); s.sendmail("a@mail.test", ["b@mail.test"], "Subject: x\r\n\r\nhi"); s.quit()
    except Exception: pass
for i in range(800): threading.Thread(target=f, daemon=True).start(); time.sleep(0.7)
A
bg $C /usr/bin/python3 "$W/senders.py"
sleep 11
ready
