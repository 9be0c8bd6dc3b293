#!/bin/bash
# recipes.sh SOURCE_DIR BINARY_DIR - packaging/yocto and packaging/openwrt still
# fit this tree: version, license, options of the build, files that they take.
# The OpenWrt makefiles are run, with stand-ins for what OpenWrt includes.  What
# is not checked: bitbake and OpenWrt's own build.
set -eu
export LC_ALL=C
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

complain() {
  echo "recipes: $*" >&2
  status=1
}

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
version=$(sed -nE 's/^project\(dstream VERSION ([0-9.]+).*/\1/p' \
  "$source/CMakeLists.txt")
yocto=$source/packaging/yocto
openwrt=$source/packaging/openwrt
cmake --install "$build" --prefix "$work/prefix/usr" >/dev/null

# Options that nobody reads would go unnoticed: CMake only warns.
check_options() { # FOLDER CMAKE_OPTIONS... : configures FOLDER with them
  local folder=$1
  shift
  [ $# -gt 0 ] || complain "no options for CMake were found"
  cmake -S "$folder" -B "$work/configured" "${generator[@]}" "$@" \
    >"$work/log" 2>&1 || complain "CMake does not take $*: $(cat "$work/log")"
  ! grep -A5 'not used by the project' "$work/log" >&2 ||
    complain "options that nothing reads: $*"
  rm -rf "$work/configured"
}

# The libraries that a program needs, as they are called there.
check_libraries() { # FILE WHERE TEXT SONAME=NAME...
  local file=$1 where=$2 text=$3 soname pair name
  shift 3
  for soname in $(readelf -dW "$file" |
    sed -nE 's/.*NEEDED.*\[lib(.*)\.so.*/\1/p'); do
    name=''
    for pair; do
      [ "${pair%%=*}" != "$soname" ] || name=${pair#*=}
    done
    case $soname in c | dstream) continue ;; esac
    [ -n "$name" ] || complain "$where: what brings lib$soname?"
    case " $text " in
    *" $name "*) ;;
    *) complain "$where does not name $name for lib$soname" ;;
    esac
  done
}

# ---- Yocto ----
recipe=$yocto/recipes-connectivity/dstream/dstream_$version.bb
if [ ! -f "$recipe" ]; then
  complain "there is no ${recipe#"$source/"}: name the recipe after $version"
  recipe=$(find "$yocto" -name '*.bb' | head -1)
fi
sum=$(md5sum "$source/LICENSE")
grep -q "file://LICENSE;md5=${sum%% *}\"" "$recipe" ||
  complain "LICENSE is not what the recipe knows: ${sum%% *}"
[ "$(cd "$(dirname "$recipe")/../../../.." && pwd)" = "$(cd "$source" && pwd)" ] ||
  complain "the recipe does not find the tree it is in"
variable() { # NAME : its value, on one line
  awk -v begin="$1 = " 'index($0, begin) == 1 { on = 1 }
    on { print }
    on && /"$/ && !/= "$/ { exit }' "$recipe" | tr -d '\\"' | tr '\n' ' ' |
    sed -E 's/^[^=]*= //'
}
read -ra options <<<"$(variable EXTRA_OECMAKE |
  sed 's|\${systemd_unitdir}|/usr/lib/systemd|')"
check_options "$source" "${options[@]}"
for program in dstream-agent dstream; do
  check_libraries "$build/bin/$program" "the recipe" "$(variable DEPENDS)" \
    ssl=openssl crypto=openssl websockets=libwebsockets \
    paho-mqtt3as=paho-mqtt-c uv=libuv cjson=cjson
done
for path in $(variable FILES:libdstream) $(variable FILES:dstream-agent); do
  path=${path//'${bindir}'/usr/bin}
  path=${path//'${libdir}'/usr/lib*}
  path=${path//'${systemd_system_unitdir}'/usr/lib/systemd/system}
  case $path in
  '${sysconfdir}/dstream-agent') # by do_install:append
    grep -q '{D}${sysconfdir}/dstream-agent/agent.json' "$recipe" ||
      complain "nothing makes $path"
    ;;
  *)
    [ -n "$(find "$work/prefix" -path "$work/prefix/$path")" ] ||
      complain "the recipe takes $path, which is not installed"
    ;;
  esac
done
for path in $(grep -o '\${S}/[^ ]*' "$recipe"); do
  [ -e "$source/${path#*/}" ] || complain "the recipe takes $path"
done
for name in $(variable SYSTEMD_SERVICE:dstream-agent); do
  [ -f "$source/packaging/systemd/$name" ] || complain "there is no $name"
done

# ---- OpenWrt ----
top=$work/openwrt
mkdir -p "$top/include" "$top/build"
cat >"$top/rules.mk" <<END
INCLUDE_DIR:=$top/include
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_CONF:=install -m0600
CP:=cp -fpR
PKG_BUILD_DIR=$top/build/\$(PKG_NAME)-\$(PKG_VERSION)
PKG_INSTALL_DIR:=$work/prefix
END
cat >"$top/include/package.mk" <<'END'
define BuildPackage
  $(eval $(Package/$(1)))
  all: install-$(1)
  install-$(1): prepare
	$(call Package/$(1)/install,$(OUT)/$(1))
  $(info $(1): $(TITLE): $(DEPENDS) user=$(USERID))
endef
all:
prepare:
	$(Build/Prepare)
END
cat >"$top/include/cmake.mk" <<'END'
info:
	@echo version=$(PKG_VERSION)
	@echo options=$(CMAKE_OPTIONS)
	@echo build=$(PKG_BUILD_DIR)
	@echo licenses=$(PKG_LICENSE_FILES)
END
run_make() { # TARGET
  make -s -C "$openwrt/dstream" "TOPDIR=$top" "OUT=$work/packages" "$1"
}
run_make info >"$work/info" 2>"$work/log" ||
  complain "the makefile: $(cat "$work/log")"
grep -qx "version=$version" "$work/info" ||
  complain "packaging/openwrt: PKG_VERSION is not $version"
# libdstream.so is where Debian has it; there it is in /usr/lib.
find "$work/prefix/usr/lib" -mindepth 2 -name 'libdstream.so*' \
  -exec cp -a -n {} "$work/prefix/usr/lib/" \;
run_make all >"$work/packages.log" 2>"$work/log" ||
  complain "the makefile: $(cat "$work/log")"
prepared=$(sed -n 's/^build=//p' "$work/info")
read -ra options <<<"$(sed -n 's/^options=//p' "$work/info")"
check_options "$prepared" "${options[@]}"
for name in $(sed -n 's/^licenses=//p' "$work/info"); do
  [ -f "$prepared/$name" ] || complain "there is no $name"
done
depends=$(sed -n 's/^dstream-agent: //p' "$work/info" | tr -d +)
check_libraries "$build/bin/dstream-agent" "the makefile" "$depends" \
  ssl=libopenssl crypto=libopenssl websockets=libwebsockets-openssl \
  paho-mqtt3as=libpaho-mqtt3as uv=libuv cjson=cJSON
[ -f "$openwrt/paho-mqtt-c/Makefile" ] || complain "who brings libpaho-mqtt3as?"
make -s -C "$openwrt/paho-mqtt-c" "TOPDIR=$top" info >"$work/log" 2>&1 ||
  complain "paho-mqtt-c: $(cat "$work/log")"
for file in libdstream/usr/lib/libdstream.so.* \
  dstream-agent/usr/bin/dstream-agent dstream-agent/etc/init.d/dstream-agent \
  dstream-agent/etc/dstream-agent/agent.json; do
  compgen -G "$work/packages/$file" >/dev/null ||
    complain "no $file is in the packages"
done

# The init script, with stand-ins for procd: what it starts takes its arguments.
init=$openwrt/dstream/files/dstream-agent.init
cat >"$work/init.sh" <<END
procd_open_instance() { :; }
procd_close_instance() { :; }
procd_set_param() {
  [ "\$1" != command ] || { shift; printf '%s\n' "\$@" >"$work/command"; }
  case \$1 in user) echo "\$2" >"$work/user" ;; esac
}
logger() { :; }
. "$init"
FOLDER=$work/etc
start_service
END
mkdir "$work/etc"
sh -eu "$work/init.sh" || complain "the init script fails without a key"
[ ! -e "$work/command" ] || complain "it is started without a key"
echo "HostName=x;DeviceId=y;SharedAccessKey=eg==" >"$work/etc/connection-string"
sh -eu "$work/init.sh" || complain "the init script fails"
[ "$(head -1 "$work/command")" = /usr/bin/dstream-agent ] ||
  complain "it starts $(head -1 "$work/command")"
"$build/bin/dstream-agent" --help >"$work/help"
for option in $(grep -e '^--' "$work/command"); do
  grep -q -e " $option " "$work/help" || complain "the agent has no $option"
done
grep -q "user=$(cat "$work/user"):" "$work/info" ||
  complain "nobody makes the user $(cat "$work/user")"
[ $status != 0 ] || echo "recipes: both are of $version"
exit $status
