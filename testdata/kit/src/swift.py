"""OpenStack Swift in one process, with its S3 API: one account and one bucket on loopback.

    swift.py PORT DIRECTORY BUCKET

Who speaks to it is `somebody:else` with the secret `secret`. It says `ready` once the bucket is there.
"""
import logging
import os
import sys

import eventlet

eventlet.monkey_patch()

import eventlet.wsgi
from swift.common import utils
from swift.common.ring import RingBuilder

port, directory, bucket = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.makedirs(os.path.join(directory, 'disk'))
with open(os.path.join(directory, 'swift.conf'), 'w') as conf:
    conf.write('[swift-hash]\nswift_hash_path_suffix = test\n[storage-policy:0]\nname = one\ndefault = yes\n')
utils.set_swift_dir(directory)

sockets = {kind: eventlet.listen(('127.0.0.1', 0)) for kind in ('account', 'container', 'object')}
for kind, socket in sockets.items():
    own = socket.getsockname()[1]
    builder = RingBuilder(0, 1, 0)
    builder.add_dev({'id': 0, 'region': 1, 'zone': 1, 'weight': 1, 'device': 'disk', 'ip': '127.0.0.1', 'port': own,
                     'replication_ip': '127.0.0.1', 'replication_port': own, 'meta': ''})
    builder.rebalance()
    builder.get_ring().save(os.path.join(directory, kind + '.ring.gz'))

from swift.account.server import AccountController
from swift.common.middleware import catch_errors, copy, dlo, gatekeeper, listing_formats, slo, tempauth
from swift.common.middleware.s3api import s3api
from swift.container.server import ContainerController
from swift.obj.server import ObjectController
from swift.proxy.server import Application

conf = {'swift_dir': directory, 'devices': directory, 'mount_check': 'false', 'workers': '0',
        'account_autocreate': 'true', 'allow_account_management': 'true', 'log_level': 'ERROR',
        'bind_port': '0', 'disable_fallocate': 'true'}
logger = utils.get_logger(conf, 'swift')
quiet = logging.getLogger('quiet')
quiet.addHandler(logging.NullHandler())
quiet.propagate = False


class Memory:
    """What memcached would keep."""

    def __init__(self):
        self.kept = {}

    def get(self, key, **_):
        return self.kept.get(key)

    def set(self, key, value, **_):
        self.kept[key] = value

    def incr(self, key, delta=1, **_):
        self.kept[key] = self.kept.get(key, 0) + delta
        return self.kept[key]

    def delete(self, key, **_):
        self.kept.pop(key, None)


def remembering(app):
    memory = Memory()

    def answer(environ, start_response):
        environ['swift.cache'] = memory
        return app(environ, start_response)

    return answer


def serve(socket, app):
    return eventlet.spawn(eventlet.wsgi.server, socket, app, quiet)


serve(sockets['account'], AccountController(conf, logger))
serve(sockets['container'], ContainerController(conf, logger))
serve(sockets['object'], ObjectController(conf, logger))

app = Application(conf, logger)
for factory, more in [
    (dlo.filter_factory, {}),
    (slo.filter_factory, {}),
    (copy.filter_factory, {}),
    (tempauth.filter_factory, {'user_somebody_else': 'secret .admin'}),
    (s3api.filter_factory, {'location': 'us-east-1', 'auth_pipeline_check': 'false', 's3_acl': 'false'}),
    (listing_formats.filter_factory, {}),
    (gatekeeper.filter_factory, {}),
    (catch_errors.filter_factory, {}),
]:
    app = factory(conf, **more)(app)
server = serve(eventlet.listen(('127.0.0.1', port)), remembering(app))

from swift.common.swob import Request

request = Request.blank('/v1/AUTH_somebody/' + bucket, environ={'REQUEST_METHOD': 'PUT', 'swift.authorize_override': True})
response = request.get_response(Application(conf, logger))
if not response.is_success:
    sys.exit('cannot make the bucket: ' + response.status)
print('ready', flush=True)
server.wait()
