from tokenferry.cli._typer import new_app
from tokenferry.cli.explain import account, credentials, request, response, route

app = new_app(
    "Explain how a request was or would be routed, what a response means, and which credential a program uses.",
    "tokenferry explain request tf_0f3a5c7e9b1d2f4a6c8e0b1d",
    "tokenferry explain route --model claude-sonnet-4-5",
    "tokenferry explain credentials --for claude-code",
)

for part in (request, route, response, credentials, account):
    app.add_typer(part.app)
