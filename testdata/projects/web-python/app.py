"""Counts the letters of a word: `/WORD` as a page, `/WORD.json` for programs."""

import getpass
from collections import Counter

from flask import Flask, jsonify, render_template

app = Flask(__name__)


@app.get("/health")
def health():
    return jsonify(status="ok", user=getpass.getuser())


@app.get("/<word>.json")
def count(word):
    return jsonify(word=word, letters=Counter(word))


@app.get("/<word>")
def page(word):
    return render_template("word.html", word=word, letters=sorted(Counter(word).items()))
