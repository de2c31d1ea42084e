"""A client with Python's cookie jar, whose clock is ahead of the balancer's by this many seconds.

Prints the verdict of each of four requests. Then it shows that the jar drops a cookie with only
Expires, whose date is past by this clock: the last line is `dropped`.
"""

import http.cookiejar
import sys
import time
import urllib.request

url, ahead = sys.argv[1], float(sys.argv[2])
real = time.time
time.time = lambda: real() + ahead

jar = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
)
for _ in range(4):
    with opener.open(url) as answer:
        print(answer.headers["x-stayput-verdict"])


class Answer:
    def info(self):
        from email.message import Message

        past = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() - 60))
        message = Message()
        message["Set-Cookie"] = f"dated=1; Expires={past}; Path=/"
        return message


jar.extract_cookies(Answer(), urllib.request.Request(url))
print("kept" if any(cookie.name == "dated" for cookie in jar) else "dropped")
