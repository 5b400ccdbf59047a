#: title = "a device sets the window of what a reader sends to zero; seen from the sender alone"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 22
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["zero-window-peer"]
#: comm = "python3"
#: destination = "10.77.2.2:873"
#: never_cause = ["reader-halted", "peer-gone"]
same device-keeps-the-window-at-zero
