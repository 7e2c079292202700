import os
import sys
import threading


def open_browser(url: str) -> bool:
    """Open the person's browser, unless it would take over the terminal; False if there seems to be none."""
    if sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return False
    import webbrowser  # noqa: PLC0415  # which looks for browsers

    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    # Some wait until the browser ends.
    threading.Thread(target=browser.open, args=(url,), name="tokenferry-browser", daemon=True).start()
    return True
