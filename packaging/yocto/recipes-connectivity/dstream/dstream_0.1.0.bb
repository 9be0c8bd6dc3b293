SUMMARY = "Device streams: byte streams to devices behind firewalls"
DESCRIPTION = "libdstream for devices and services, dstream-agent, which offers \
a device's local addresses to streams, and dstream, which opens streams."
SECTION = "net"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=8f52f4fa98eecab126711080427a501e"

# The tree that this recipe is in.  To build another one, set DSTREAM_SOURCE; to
# fetch it, leave out "externalsrc" and name a SRC_URI in a .bbappend.
DSTREAM_SOURCE ?= "${@os.path.realpath(d.getVar('FILE_DIRNAME') + '/../../../..')}"
EXTERNALSRC = "${DSTREAM_SOURCE}"

DEPENDS = "openssl libwebsockets paho-mqtt-c libuv cjson"

inherit cmake pkgconfig systemd bash-completion externalsrc

EXTRA_OECMAKE = " \
    -DDSTREAM_BUILD_HUB=OFF \
    -DDSTREAM_BUILD_SAMPLES=OFF \
    -DDSTREAM_SYSTEMD_DIR=${systemd_unitdir} \
"

PACKAGES =+ "libdstream dstream-agent"

FILES:libdstream = "${libdir}/libdstream.so.*"
FILES:dstream-agent = " \
    ${bindir}/dstream-agent \
    ${systemd_system_unitdir}/dstream-agent.service \
    ${sysconfdir}/dstream-agent \
"
CONFFILES:dstream-agent = "${sysconfdir}/dstream-agent/agent.json"

RDEPENDS:${PN}-dev = "libdstream (= ${EXTENDPKGV})"
# Without the plugin the programs poll(), which is as good for a few streams.
RRECOMMENDS:dstream-agent = "ca-certificates libwebsockets-evlib-uv"
RRECOMMENDS:${PN} = "ca-certificates libwebsockets-evlib-uv"

# The agent wants a key first: docs/agent.md.
SYSTEMD_PACKAGES = "dstream-agent"
SYSTEMD_SERVICE:dstream-agent = "dstream-agent.service"
SYSTEMD_AUTO_ENABLE:dstream-agent = "disable"

do_install:append() {
    install -d -m 0755 ${D}${sysconfdir}/dstream-agent
    install -m 0644 ${S}/packaging/debian/agent.json ${D}${sysconfdir}/dstream-agent/agent.json
}
