#: title = "two threads of a Java server wait for each other's lock; the peer goes on sending; seen from the sender"
#: kind = "K2"
#: needs = ["java", "javac", "nc"]
#: seconds = 25
#: [[expect]]
#: rule = ["zero-window-peer"]
#: destination = "10.77.0.2:7000"
same java-reader-deadlocked
