"""The hash by which a node knows somebody's password."""

from __future__ import annotations

import sys

import typer

from node.identity.passwords import CHARACTERS_MAX, PasswordHash


def key_password() -> None:
    """Hash a password for auth.users. It is asked for, or read from a pipe, never from the command line."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline(CHARACTERS_MAX + 2).rstrip("\r\n")
    typer.echo(str(PasswordHash.of(password)))
    typer.echo("\nThe entry in auth.users: {name: NAME, password: {scrypt: 'HASH'}}, with that line for HASH", err=True)
