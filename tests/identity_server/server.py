"""An authorization server: django-oauth-toolkit, as its documentation sets it up, in one file.

Run in its own environment (setup.sh): `server.py PORT DIRECTORY [HOST]`, PORT 0 for any. Keys are PEM files in
DIRECTORY: `key.pem` signs, `old-*.pem` are still published. Its first line of output is its issuer.

Access tokens are JWTs (RFC 9068) by its own hook for that, ACCESS_TOKEN_GENERATOR.
"""

import json
import logging
import sys
import time
import uuid
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from jwcrypto import jwk, jwt

port, directory = int(sys.argv[1]), Path(sys.argv[2])
LIFE_S = 300


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


server = make_server("127.0.0.1", port, None, Server, Quiet)  # type: ignore[arg-type]
ISSUER = f"http://127.0.0.1:{server.server_port}"
KEY = (directory / "key.pem").read_text()


def access_token(request, refresh_token: bool = False) -> str:
    """A JWT for what the client has asked for; an opaque token where the file `opaque` is in DIRECTORY."""
    if refresh_token or (directory / "opaque").exists():
        return uuid.uuid4().hex
    resource = request.resource if isinstance(getattr(request, "resource", None), list) else [request.resource]
    now = int(time.time())
    life_s = int((directory / "life_s").read_text()) if (directory / "life_s").exists() else LIFE_S
    claims = {
        "iss": ISSUER,
        "sub": request.user.get_username() if request.user else request.client_id,
        "aud": [r for r in resource if r],
        "scope": " ".join(request.scopes),
        "client_id": request.client_id,
        "iat": now,
        "exp": now + life_s,
        "jti": uuid.uuid4().hex,
    }
    key = jwk.JWK.from_pem(KEY.encode())
    token = jwt.JWT(header={"alg": "RS256", "typ": "at+jwt", "kid": key.thumbprint()}, claims=claims)
    token.make_signed_token(key)
    return str(token.serialize())


SIGN_IN = '<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>'

settings.configure(
    SECRET_KEY=uuid.uuid4().hex,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "db.sqlite3")}},
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": SIGN_IN}),
                    "django.template.loaders.app_directories.Loader",
                ],
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                ],
            },
        }
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGIN_URL="/login/",
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": KEY,
        "OIDC_RSA_PRIVATE_KEYS_INACTIVE": [p.read_text() for p in sorted(directory.glob("old-*.pem"))],
        "OIDC_ISS_ENDPOINT": ISSUER,
        "ACCESS_TOKEN_GENERATOR": access_token,
        "ACCESS_TOKEN_EXPIRE_SECONDS": LIFE_S,
        "SCOPES": {"mcp": "Use MCP", "operator": "Run the node", "openid": "OpenID Connect", "introspection": "Ask"},
        "DEFAULT_SCOPES": ["mcp"],
        "DCR_ENABLED": True,
        "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
        "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": ["client_secret_post", "client_secret_basic", "none"],
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402

urlpatterns = [path("login/", LoginView.as_view()), path("", include("oauth2_provider.urls"))]

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    call_command("migrate", verbosity=0)
    from oauth2_provider.models import Application

    for name, password in json.loads((directory / "people.json").read_text()).items():
        if not User.objects.filter(username=name).exists():
            User.objects.create_user(name, password=password)
    for client_id, secret in json.loads((directory / "clients.json").read_text()).items():
        if not Application.objects.filter(client_id=client_id).exists():
            Application.objects.create(
                client_id=client_id,
                client_secret=secret,
                client_type="confidential",
                authorization_grant_type="client-credentials",
            )
    server.set_app(get_wsgi_application())
    print(ISSUER, flush=True)
    server.serve_forever()
