# 32-bit ARM with hardware floating point (ARMv7-A) on Debian and its relatives:
#   cmake -S . -B build-armhf -DCMAKE_TOOLCHAIN_FILE=cmake/toolchain-armhf.cmake \
#     -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_BUILD_TOOLS=OFF [-DCMAKE_SYSROOT=FOLDER]
# with the package gcc-arm-linux-gnueabihf; see toolchain-debian.cmake.
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(triplet arm-linux-gnueabihf)
include(${CMAKE_CURRENT_LIST_DIR}/toolchain-debian.cmake)
