def page(done):
    return ""


def picture(done):
    return ""
