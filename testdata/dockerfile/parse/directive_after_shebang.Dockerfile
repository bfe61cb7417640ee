#!/usr/bin/env -S rbuild -f
# syntax=docker/dockerfile:1
# escape=`
FROM a
