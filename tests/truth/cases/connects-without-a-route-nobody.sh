#: title = "the same, and the one who looks has no privileges"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 6
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures"]
same connects-without-a-route
