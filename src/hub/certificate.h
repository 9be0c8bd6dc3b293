/* hub/certificate.h - a private CA and a server certificate signed by it.
 *
 * ECDSA P-256 keys, random serial numbers, and the extensions that strict
 * verifiers ask for (RFC 5280 4.2.1: basicConstraints, keyUsage, both key
 * identifiers, subjectAltName).  What is made here serves a hub out of the box;
 * an operator may put any other certificate into its place.
 */
#ifndef HUB_CERTIFICATE_H
#define HUB_CERTIFICATE_H

#include <stdint.h>

#include <dstream/status.h>

#define CERTIFICATE_CA_DAYS 3650
#define CERTIFICATE_SERVER_DAYS                                                \
  825 /* the longest that Apple's systems take                                 \
       */

/* Writes four PEM files, keys with mode 0600, into the folder dirfd: ca.pem,
 * ca-key.pem, server.pem (with the CA's certificate after it) and
 * server-key.pem.  The server is good for host (a name or an IPv4 address),
 * localhost, 127.0.0.1 and ::1.  DSTREAM_ESYSTEM, DSTREAM_EINTERNAL: end says
 * what failed.  Files that were written stay. */
int certificate_create(int dirfd, const char *host, struct dstream_end *end);

/* When the first certificate in a PEM file expires, Unix seconds; 0: it can't
 * be read. */
int64_t certificate_expires_s(const char *path);

#endif
